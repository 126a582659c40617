# terraform test: the plan of an environment, without an account.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "production" {
  command = plan

  variables {
    environment     = "production"
    region          = "eu-central-1"
    domain          = "api.example.com"
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].redirect[0].status_code == "HTTP_301"
    error_message = "HTTP must redirect to HTTPS."
  }

  assert {
    condition     = aws_lb_target_group.service.health_check[0].path == "/health/ready"
    error_message = "The load balancer must ask for readiness."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].rollback
    error_message = "A release that does not become healthy must be rolled back."
  }

  assert {
    condition     = !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Tasks must not be reachable from the internet."
  }
}

run "production_without_a_domain" {
  command = plan

  variables {
    environment = "production"
    region      = "eu-central-1"
  }

  expect_failures = [var.domain]
}
