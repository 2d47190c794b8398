// In front of the page's own script: what goes wrong is written down.
window.errors = [];
addEventListener('error', (event) => errors.push(event.message || 'missing: ' + event.target.outerHTML.slice(0, 80)), true);
addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)));
