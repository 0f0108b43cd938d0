import type { FastifyRequest, RouteShorthandOptions } from "fastify";

/**
 * Options of every route under `/runtime`: whatever the server logs of its requests, it is the route's template and never the URL, which may
 * hold a token (F90).
 */
export const logsRouteOnly = {
  logSerializers: {
    req: (request: FastifyRequest) => ({ id: request.id, method: request.method, route: request.routeOptions.url }),
  },
} satisfies RouteShorthandOptions;
