"""HTML that opens from a file, without a server and without network: reports and atlases.

`page` renders templates with a content security policy, and `images` encodes arrays. Templates are in
``templates/``; style sheets and scripts are in ``assets/``, and pages contain them.
"""
