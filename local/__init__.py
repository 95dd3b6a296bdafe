"""The whole cloud on one machine: storage, Partner Center, Entra, Key Vault, managed identity."""
