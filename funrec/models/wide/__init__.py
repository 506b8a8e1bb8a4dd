"""Wide parts: what is added to the towers' logits beside the network."""
