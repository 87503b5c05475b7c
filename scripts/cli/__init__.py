"""Code shared by the commands: flags, seeds, folders and error messages."""
