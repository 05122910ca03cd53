"""Datasets: where photos are, what they are labelled, and their pixels."""
