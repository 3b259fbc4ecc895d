// Loaded before Portkey, which would listen on every address of the machine and has no setting for it: only on loopback.
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, { port, host: "127.0.0.1" }, ...rest.filter((argument) => typeof argument === "function"));
};
