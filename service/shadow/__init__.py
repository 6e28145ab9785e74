"""The shadow: compares a share of one version's answers with those of another."""
