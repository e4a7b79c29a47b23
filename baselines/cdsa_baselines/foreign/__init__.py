"""Policies of other libraries, one importer each; weights are read, nothing from a file is ever executed."""
