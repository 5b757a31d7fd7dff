"""What running and training models on this machine needs: device and number type, loading, inputs, adapters, a resumable loop."""
