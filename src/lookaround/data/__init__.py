"""Corpora, labelled tasks, tokenizers and token shards."""
