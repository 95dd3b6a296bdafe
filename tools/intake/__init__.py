"""What is where and why, and how to set it going again: the operator's own tool (docs/operators.md)."""
