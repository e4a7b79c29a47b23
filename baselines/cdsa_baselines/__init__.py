"""Baselines that ship with cdsa-lightning, reached by name through the entry points of the group ``cdsa.baselines``."""
