"""The report: one page of what a results folder holds, the same numbers for machines, and the page as PDF.

It reads nothing but files: tables and figures that match their seals, executed notebooks, plans, and what runs tell of
their making. What is not there, or damaged, is passed over.

The three questions that the page alone answers within half a minute, whoever opens it: which source leans more on the
tag, and how sure is that? Is anything confounded in the data itself? Could a tag of this size be seen at all?
"""

from sourcematters.report.executed import heading
from sourcematters.report.page import link, write
from sourcematters.report.words import lasting

__all__ = ["heading", "lasting", "link", "write"]
