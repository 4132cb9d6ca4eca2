"""agents act: they read files and requests, keep the journal, serve the page. They compute nothing themselves."""
