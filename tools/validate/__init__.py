"""For suppliers: what would become of a manifest, by the code that will read it, before it is dropped."""
