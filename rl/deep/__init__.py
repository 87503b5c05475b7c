"""Q-networks: `agent` holds networks, target networks and optimizer; `dqn` is the config of DQN and its extensions.

`heads` define outputs and losses, `replay` is experience replay, `loops` turn environment steps into updates. Imports only
`rl.core` and the pure functions of rl.
"""
