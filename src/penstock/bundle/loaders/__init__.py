"""What turns the bytes of a bundle into a `Predictor`: one module per format."""
