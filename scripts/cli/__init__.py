"""What the commands share: their flags, seeds and folders, errors as sentences."""
