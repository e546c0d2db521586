"""What all adapters share: the contract, layers with an episode axis, features."""
