"""Git repositories as sources: the files of a revision, and histories as chains of versions.

Nothing that a repository brings is ever run: its objects are read through an empty scratch repository, so its
configuration, hooks and attributes are never seen (`repository`).
"""
