package radiusd

import (
	"sallyport/internal/login"
	"sallyport/radiusd/wire"
)

func (s *Server) prepareCHAP(r *request, a login.Attempt) (login.Attempt, way, login.Reason) {
	return a, wayRefuse, login.ReasonPasswordMissing
}

func (s *Server) converse(r *request, tools *toolbox) []byte {
	return s.answer(r, tools, s.judge(r.road.traffic().ctx, r, tools.Digester))
}

func (s *Server) addProofs(out *wire.Writer, r *request, tools *toolbox, outcome login.Outcome) {}

func (s *Server) addRefusal(out *wire.Writer, r *request) {
	if r.view.EAP.Present() {
		out.Add(wire.AttrEAPMessage, eapFailure(r.view.EAP.In(r.packet)))
	}
}
