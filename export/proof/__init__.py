"""The proof: what is served gives the answers of the user's own network, or is not published."""
