"""`perturb web`: a read-only page about one validator, on loopback, made on this machine for each request.

`viewer` keeps the newest overview; `pictures` makes clean image, adversarial image and difference; `charts`
draws SVG; `pages` renders HTML; `guard` says who may read it; `app` puts it together and serves it. There is
no script on any page and nothing to build.
"""

from __future__ import annotations

from perturbnet.web.app import build_app, serve
from perturbnet.web.pictures import Pictures
from perturbnet.web.viewer import Viewer

__all__ = ["Pictures", "Viewer", "build_app", "serve"]
