"""A parameter server under an unmodified LightningModule."""
