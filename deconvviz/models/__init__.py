"""Load networks with their weights, from torchvision, timm, a user's file or the shipped minivgg."""
