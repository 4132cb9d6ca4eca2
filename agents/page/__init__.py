"""The live page: static files that show every KPI in a browser, for a team without Grafana.

Plain ES modules, no build step, nothing loaded from another host. A server gives this folder as it is at
the root of the site (`index.html` at `/`, the rest beside it; all addresses in it are relative, so a prefix
works too) and answers `api/catalogue`, `api/history` and the event stream `api/live` under the same root.

    page.js        starts: selectors, groups of cards, the frame that draws
    feed.js        the connection and the state it is in: waiting, live, catching-up, held-back, stale, disconnected
    store.js       what is known: series with their points, bounded, and gaps that stay gaps
    selection.js   which series of a KPI a card shows under the reader's choices
    card.js        one KPI: question, figures, legend, chart
    states.js      what the engine says of a series: marks, words, and which of them need to be looked at
    summary.js     the line above the cards
    details.js     what names work and people, asked on demand
    behind.js      from a number to the items behind it, and to why one is read so
    work.js        the work of a value stream item by item: three pictures
    pictures.js    cumulative flow, scatter and ageing as SVG
    dom.js         elements in one call
    chart.js       the chart: uPlot, held lines, what is usual, axes in human units
    units.js       numbers, durations and times as words
    vendor/        uPlot, unchanged
"""
