"""Interactive view of pictures in networks: one front end, in notebooks (`widget`) and browsers (`server`).

`session` answers the requests of the front end, `worker` runs them one after another in a thread, and newer
requests replace older ones. The front end is ``assets/explorer_*.js``, joined to one module (`SCRIPTS`).
"""

SCRIPTS = "+".join(f"explorer_{name}.js" for name in ("pixels", "stage", "card", "detail", "app"))
"""Scripts of the front end, as `deconvviz.web.page.render` takes them: one module as anywidget defines it."""
