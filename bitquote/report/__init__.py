"""Tables, figures and TensorBoard (whose module alone imports torch, and is imported by its own name)."""
