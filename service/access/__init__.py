"""Who may do what: principals, their scopes and limits, and the one table of what needs which."""
