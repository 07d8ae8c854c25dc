"""Studies: thin programs over the library, each with a folder of its own that the same command
resumes.
"""
