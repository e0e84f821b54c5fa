"""What a quantized language model loses: perplexity beside everything that is stored."""
