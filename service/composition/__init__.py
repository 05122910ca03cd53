"""What came and where it went: counts by hour, place and bin, kept in a database and reported.

`tally` counts in memory, `recorder` writes that into a `store` now and then, `report` reads it.
"""
