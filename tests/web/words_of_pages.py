"""What no page should say."""

import re

UNSAID = re.compile(r"\bundefined\b|\bNaN\b|\[object |\bInfinity\b|\{\w+\}")
"""What a page writes where it had nothing to say."""
