"""The method itself, in PyTorch alone: networks, losses, policies and the correction."""
