"""HTTP servers that behave as the documents say the real services do, and misbehave on request."""
