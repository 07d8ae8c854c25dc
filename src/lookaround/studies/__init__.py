"""Studies: thin programs over the library, each with a folder that the same command resumes."""
