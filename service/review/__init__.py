"""Photos that a person is to look at, kept on the operator's machine, and what people said.

`service.review.opening.open_store` is the way in. It needs SQLAlchemy and fsspec (the extra
`review`), and nothing of the web service: training reads the same store.
"""
