"""A bundle: its manifest, which file runs where, signature, plan and golden vectors."""
