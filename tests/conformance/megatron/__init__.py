"""The real Megatron, asked on a CPU. Only the recorder imports this: it needs Megatron's own environment (``setup.sh``)."""
