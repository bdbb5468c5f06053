"""How long work tells how far it is: a plain function, called with whole numbers, as often as is convenient.

Who does the work knows nothing of screens; `bars` makes such functions where somebody looks. The last call
says (n, n).
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # (done, of): leaves, rows, files, whatever the function says
Stages = Callable[[str, int, int], None]  # (what, done, of): of work of several kinds
