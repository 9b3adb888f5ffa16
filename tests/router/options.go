package router

// Option changes how Start makes a router.
type Option func(*Router)

// WithOffloads leaves the offloading of segments to the devices as the kernel
// has it. Packets of up to 64 kB then cross the router, as they do on one that
// merges what it receives (GRO). Otherwise all are as large as on a cable.
func WithOffloads() Option {
	return func(r *Router) { r.offloads = true }
}
