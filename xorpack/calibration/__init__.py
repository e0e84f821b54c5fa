"""What a model's activations say about its weights; needs the extra ``[hf]``."""
