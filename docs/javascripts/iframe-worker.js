// A page that is opened from a folder may start no worker, and the search is one: its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const address = new URL(url, location.href).href;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.loaded = new Promise((done) => this.frame.addEventListener("load", done, { once: true }));
      this.frame.srcdoc = "<!doctype html><title>search</title>";
      document.body.append(this.frame);
      this.ready = this.loaded.then(() => {
        const inside = this.frame.contentWindow;
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = inside.document.createElement("script");
        script.src = address;
        return new Promise((done, fail) => {
          script.addEventListener("load", done);
          script.addEventListener("error", fail);
          inside.document.head.append(script);
        });
      });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
