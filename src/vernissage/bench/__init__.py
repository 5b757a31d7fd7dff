"""Benchmarks that resume: suites, the run folder, tables and reports."""
