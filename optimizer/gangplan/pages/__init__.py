"""What every HTML page shares: the environment of its templates, colours, words, tables, drawing."""
