"""Name to module with weights: torchvision, timm, a user's file, and the minivgg that ships inside."""
