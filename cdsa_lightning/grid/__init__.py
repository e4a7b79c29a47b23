"""Many evaluations from one file: tasks x baselines x arms x seeds, each part made once, kept, and never made again.

settings   a grid as YAML, checked             facts     which data a task has here, and their fingerprint
nodes      what is to be made, in which order  schedule  making it: what is missing, failures kept apart
local      worker processes                    cells     one baseline on one task: the record of all episodes
scores     records as scores beside the paper  tables    those as Markdown, LaTeX, parquet, aggregates, pictures
"""
