"""Networks that share their weights over the image."""
