// In the page around the frames: looks into each when it is there, clicks, and leaves what it saw as text.
addEventListener('load', () => {
  const seen = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, root = page.documentElement;
    const tables = [...page.querySelectorAll('table.sortable')].map((table) => {
      const column = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
      return [...table.tHead.rows[0].cells].map((head, i) => {
        const click = () => { head.querySelector('button').click(); return [head.getAttribute('aria-sort'), column(i)]; };
        return {name: head.textContent, before: column(i), clicks: [click(), click()]};
      });
    });
    seen[frame.name] = {
      errors: frame.contentWindow.errors,
      overflow: root.scrollWidth - root.clientWidth,
      wide: [...page.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1
        && !e.closest('.scroll, pre')).map((e) => e.tagName + '.' + e.className).slice(0, 5),
      images: [...page.images].map((image) => image.naturalWidth),
      charts: [...page.querySelectorAll('svg')].map((svg) => svg.getBoundingClientRect().width),
      tables,
    };
  }
  const result = document.createElement('pre');
  result.id = 'result';
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
