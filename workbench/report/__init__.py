"""One page for somebody who was not there: what studies found, as HTML that needs nothing beside itself.

`questions` says what is asked, `page` writes the answers down. Charts are SVG by matplotlib; there is no script and
nothing is fetched. No torch here, and nothing is computed.
"""
