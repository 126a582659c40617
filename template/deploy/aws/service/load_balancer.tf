locals {
  https = var.domain != null
  # The zone is given if Route 53 hosts it; then the certificate is made here.
  hosted = var.domain != null && var.certificate_arn == null
}

resource "aws_security_group" "load_balancer" {
  name        = "${local.name}-load-balancer"
  description = "The load balancer of ${local.name}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  #checkov:skip=CKV_AWS_260:Port 80 redirects to HTTPS
  for_each          = toset(local.https ? ["80", "443"] : ["80"])
  security_group_id = aws_security_group.load_balancer.id
  description       = "Clients"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_vpc_security_group_egress_rule" "load_balancer_to_service" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "The service"
  referenced_security_group_id = aws_security_group.service.id
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
}

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91:The service logs every request, so access logs of the load balancer would repeat them
  #checkov:skip=CKV2_AWS_28:waf.tf adds AWS WAF if var.waf is true
  #checkov:skip=CKV2_AWS_76:waf.tf adds these rules if var.waf is true
  #checkov:skip=CKV_AWS_150:var.deletion_protection is true unless you destroy the environment
  #checkov:skip=CKV2_AWS_20:The listener on port 80 redirects if there is a domain
  name                       = local.short_name
  load_balancer_type         = "application"
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.load_balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  # Longer than REQUEST_TIMEOUT_SECONDS, and shorter than KEEP_ALIVE_TIMEOUT_SECONDS, or the service closes a connection
  # that the load balancer is about to use.
  idle_timeout = 60
}

resource "aws_lb_target_group" "service" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; only it can reach the tasks, in a private network
  name        = local.short_name
  vpc_id      = aws_vpc.this.id
  target_type = "ip"
  port        = 8000
  protocol    = "HTTP"
  # ECS waits this long after it has removed a task from the load balancer, before the task gets SIGTERM.
  deregistration_delay = 30

  # ECS replaces a task whose target is unhealthy. A restart does not repair a database, so it takes an outage of five
  # minutes. A new target needs one successful check only.
  health_check {
    path                = "/health/ready"
    matcher             = "200"
    interval            = 30
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 10
  }
}

resource "aws_lb_listener" "http" {
  #checkov:skip=CKV_AWS_2:It redirects to HTTPS if there is a domain, and production must have one
  #checkov:skip=CKV_AWS_103:It redirects to HTTPS if there is a domain, and production must have one
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type             = local.https ? "redirect" : "forward"
    target_group_arn = local.https ? null : aws_lb_target_group.service.arn

    dynamic "redirect" {
      for_each = local.https ? [true] : []

      content {
        port        = "443"
        protocol    = "HTTPS"
        status_code = "HTTP_301"
      }
    }
  }
}

resource "aws_lb_listener" "https" {
  count             = local.https ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = local.hosted ? aws_acm_certificate_validation.this[0].certificate_arn : var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.service.arn
  }
}

# The health report names dependencies, so it is for the inside. /health/ready is public: it says 200 or 503.
resource "aws_lb_listener_rule" "internal" {
  listener_arn = local.https ? aws_lb_listener.https[0].arn : aws_lb_listener.http.arn
  priority     = 1

  condition {
    path_pattern {
      values = ["/health", "/health/", "/health/live", "/health/started"]
    }
  }

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      message_body = "Not found"
      status_code  = "404"
    }
  }
}

data "aws_route53_zone" "this" {
  count = local.hosted ? 1 : 0
  name  = var.zone
}

resource "aws_acm_certificate" "this" {
  count             = local.hosted ? 1 : 0
  domain_name       = var.domain
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  count           = local.hosted ? 1 : 0
  zone_id         = data.aws_route53_zone.this[0].zone_id
  name            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.this[0].domain_validation_options).resource_record_value]
  ttl             = 60
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  count                   = local.hosted ? 1 : 0
  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = aws_route53_record.validation[*].fqdn
}

resource "aws_route53_record" "service" {
  count   = local.hosted ? 1 : 0
  zone_id = data.aws_route53_zone.this[0].zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}
