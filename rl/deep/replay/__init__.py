"""Experience replay: storage, n-step sampling, windows of episodes and priorities. Imports only `rl.core`."""
