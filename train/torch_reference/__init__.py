"""The same networks in torch.nn, written independently, for tests and benchmarks only."""
